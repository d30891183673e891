// The typed client of the REST API.
import createFetchClient from 'openapi-fetch';

export { createFetchClient };

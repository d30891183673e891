// A container's health: exit code 0 when the URL answers well. The slim image has no curl.

const url = process.argv[2] ?? '';
const fault = await fetch(url, { signal: AbortSignal.timeout(2_500) }).then(
  async response => (response.ok ? null : `${response.status} ${await response.text()}`),
  error => String(error.cause ?? error),
);
if (fault !== null) {
  console.error(`${url}: ${fault}`);
  process.exit(1);
}

// Names of calls, `operationId` of the OpenAPI document: generators of clients make functions of them. They follow
// from method and path: listVolumes, createVolume, getVolume, updateVolume, deleteVolume, moveVolume.

const VERBS: Readonly<Record<string, string>> = { get: 'get', patch: 'update', delete: 'delete' };

/** What the path alone does not tell well. */
const NAMES: Readonly<Record<string, string>> = {
  'get /healthz': 'getHealth',
  'get /readyz': 'getReadiness',
  'get /v1/audit': 'listAuditEntries',
  'get /v1/volumes/{volume}/changed-bytes': 'countVolumeChangedBytes',
  'post /v1/policies/simulate': 'simulatePolicyDefinition',
  'post /v1/runs/{run}/speed': 'setRunSpeed',
  'post /v1/storage-nodes/join': 'joinStorageNode',
  'post /v1/webhooks/{webhook}/secret': 'renewWebhookSecret',
};

const isParameter = (part: string | undefined) => part?.startsWith('{') === true;
const isPlural = (part: string) => part.endsWith('s');
const singular = (part: string) => part.replace(/ies$/, 'y').replace(/s$/, '');
const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
const camel = (part: string) => part.split('-').map(capital).join('');

/** `parts` as one noun: who is named by a parameter is one, what is not is all of them. */
function nounOf(parts: readonly string[]): string {
  return parts
    .flatMap((part, index) => {
      if (isParameter(part)) return [];
      return camel(isParameter(parts[index + 1]) ? singular(part) : part);
    })
    .join('');
}

/** `method` in small letters, `path` as in the document: `/v1/volumes/{volume}`. */
export function operationName(method: string, path: string): string {
  const known = NAMES[`${method} ${path}`];
  if (known !== undefined) return known;
  const parts = path.split('/').filter(part => part !== '' && part !== 'v1');
  const last = parts.at(-1)!;
  if (method !== 'post') {
    const verb = method === 'get' && !isParameter(last) ? 'list' : (VERBS[method] ?? method);
    return `${verb}${nounOf(parts)}`;
  }
  if (isPlural(last)) return `create${nounOf([...parts.slice(0, -1), singular(last)])}`;
  return `${camel(last).replace(/^./, letter => letter.toLowerCase())}${nounOf(parts.slice(0, -1))}`;
}

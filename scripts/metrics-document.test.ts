// Goal: docs/METRICS.md lists every metric as the code makes it, and no other.
import { readFile } from 'node:fs/promises';
import { METRICS } from '@tidemark/proto/metrics';
import { expect, test } from 'vitest';

test('the document and the catalogue say the same', async () => {
  const text = await readFile(new URL('../docs/METRICS.md', import.meta.url), 'utf8');
  const sections = [...text.matchAll(/^## (api|worker|storage-node)\n(.*?)(?=^## )/gms)];
  const documented = sections.flatMap(([, service, body]) =>
    [...body!.matchAll(/^\| `(tidemark_\w+)` \| (\w+) \| (.+?) \| (.+) \|$/gm)].map(
      ([, name, type, labels, help]) => {
        const names = labels === '-' ? [] : labels!.split(', ').map(label => label.slice(1, -1));
        return [name, { service, type, help, labels: names }];
      },
    ),
  );
  expect(Object.fromEntries(documented)).toEqual(METRICS);
  // What the examples ask for exists.
  const names = new Set(Object.keys(METRICS));
  const asked = text.match(/tidemark_\w+?(?=_bucket|\W)(?!\()/g) ?? [];
  const unknown = asked.filter(name => !names.has(name) && !name.endsWith('_'));
  expect(unknown).toEqual([]);
});

// JSON as qemu-img prints it: four blanks a level, and empty lists on two lines.

export function prettyJson(value: unknown, indent = ''): string {
  const inner = `${indent}    `;
  if (Array.isArray(value)) {
    const items = value.map(item => `${inner}${prettyJson(item, inner)}`);
    return `[\n${items.join(',\n')}${items.length === 0 ? '' : '\n'}${indent}]`;
  }
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .map(([key, member]) => `${inner}${JSON.stringify(key)}: ${prettyJson(member, inner)}`);
  return `{\n${members.join(',\n')}${members.length === 0 ? '' : '\n'}${indent}}`;
}

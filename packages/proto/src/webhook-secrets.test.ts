// Goal: a secret of a webhook is read again by who has its key, for its own webhook alone; everybody else is told what
// to do, and is told nothing of secret or key.
import { expect, test } from 'vitest';
import { WebhookSecrets } from './webhook-secrets.ts';

const SECRET = 'whsec_0123456789abcdefghijklmnopqrstuvwxyz';
const KEYS = ['first-key-0123456789abcdef0123456789', 'second-key-0123456789abcdef012345678'] as const;
const owner = { id: '5f0c3a9e-7b1d-4486-9b0a-1f2e3d4c5b09', name: 'ops' };
const [first, second] = KEYS.map(key => new WebhookSecrets([key])) as [WebhookSecrets, WebhookSecrets];

test('what is sealed is opened, never the same twice, and shows nothing', () => {
  const texts = [first.seal(owner, SECRET), first.seal(owner, SECRET)];
  expect(texts.map(text => first.open(owner, text))).toEqual([SECRET, SECRET]);
  expect(texts[0]).not.toBe(texts[1]);
  for (const text of texts) {
    expect(text).toMatch(/^sealed1\.[0-9a-f]{8}\.[\w-]{16}\.[\w-]+$/);
    for (const hidden of [SECRET, ...KEYS]) {
      expect(text).not.toContain(Buffer.from(hidden).toString('base64url').slice(4, 20));
      expect(text).not.toContain(hidden.slice(6));
    }
  }
});

test('another key, no key, another webhook and every changed character are told apart from the right one', () => {
  const text = first.seal(owner, SECRET);
  const refusal = (use: () => unknown) => {
    try {
      use();
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      expect(message).toMatch(/webhook 'ops'.*(TIDEMARK_WEBHOOK_KEY|new secret)/s);
      for (const key of [...KEYS, SECRET]) expect(message).not.toContain(key);
      return code;
    }
    return 'none';
  };
  expect(refusal(() => second.open(owner, text))).toBe('webhook-key-unknown');
  expect(refusal(() => new WebhookSecrets([]).open(owner, text))).toBe('webhook-key-missing');
  expect(refusal(() => new WebhookSecrets([]).seal(owner, SECRET))).toBe('webhook-key-missing');
  const other = { id: '00000000-7b1d-4486-9b0a-1f2e3d4c5b09', name: 'ops' };
  expect(refusal(() => first.open(other, text))).toBe('webhook-secret-damaged');
  for (const odd of ['', 'sealed1', 'sealed1.x', text.slice(0, 30), 'plain']) {
    expect(
      refusal(() => first.open(owner, odd)),
      odd,
    ).toBe('webhook-secret-damaged');
  }
  const start = text.lastIndexOf('.') + 1;
  // The last character of base64url may hold bits that count for nothing.
  for (let at = start; at < text.length - 1; at++) {
    const changed = `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;
    expect(
      refusal(() => first.open(owner, changed)),
      String(at),
    ).toBe('webhook-secret-damaged');
  }
});

test('keys are changed by naming the one before, and what is from before any is taken over', () => {
  const both = new WebhookSecrets([KEYS[1], KEYS[0]]);
  for (const text of [first.seal(owner, SECRET), SECRET]) {
    const anew = both.resealed(owner, text)!;
    expect(second.open(owner, anew)).toBe(SECRET);
    expect(both.resealed(owner, anew)).toBeNull();
  }
  expect(() => second.resealed(owner, first.seal(owner, SECRET))).toThrow(/is sealed with key/);
});

// Goal: receivers can check what they get by the documented rule alone, and no webhook leads to where it must not.
import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { isRefusedAddress, isSignedBy, signWebhook, webhookUrlFault } from './webhooks.ts';

const secret = 'whsec_test';

test('the signature is what the documentation says', () => {
  const signature = signWebhook('{"a":1}', { secret, seconds: 1_764_000_000 });
  const digest = createHmac('sha256', secret).update('1764000000.{"a":1}').digest('hex');
  expect(signature).toBe(`t=1764000000,v1=${digest}`);
});

test('a receiver refuses another body, another secret, an old moment and nonsense', () => {
  const signature = signWebhook('body', { secret, seconds: 1000 });
  const check = (more: object = {}, body = 'body') =>
    isSignedBy(body, { signature, secret, nowSeconds: 1010, ageSecondsMax: 300, ...more });
  expect(check()).toBe(true);
  expect(check({}, 'bodY')).toBe(false);
  expect(check({ secret: 'other' })).toBe(false);
  expect(check({ nowSeconds: 1301 })).toBe(false);
  expect(check({ signature: 'v1=x' })).toBe(false);
});

test.each([
  'ftp://a.example/',
  'file:///etc/passwd',
  'javascript:1',
  'nonsense',
  'http://user:word@a.example/',
  'http://169.254.169.254/latest',
  'http://[fe80::1]/',
  'http://0.0.0.0:80/',
  'http://0/',
  'http://[::ffff:169.254.169.254]/',
  'http://2852039166/',
  'https://a.example/#part',
])('refuses %s', url => {
  expect(webhookUrlFault(url)).toMatch(/;|,/);
});

test.each(['https://ops.example/hook?a=b', 'http://127.0.0.1:9/x', 'http://10.0.0.1/', 'http://[::1]:80/'])(
  'takes %s',
  url => {
    expect(webhookUrlFault(url)).toBeNull();
  },
);

test('an address that is none is refused, too', () => {
  expect(isRefusedAddress('example')).toBe(true);
  expect(isRefusedAddress('192.168.1.1')).toBe(false);
});

// What webhooks are sent and where to: the signature over each body, and addresses that are refused. Both ends of the
// contract are here: who gives an address is told of a refusal at once, who sends checks again.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';

export const SIGNATURE_HEADER = 'tidemark-signature';

/** `t=<seconds>,v1=<hexadecimal HMAC-SHA256 over "<seconds>.<body>">`. */
export function signWebhook(body: string, { secret, seconds }: { secret: string; seconds: number }): string {
  const digest = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex');
  return `t=${seconds},v1=${digest}`;
}

/** What a receiver does, and tests with it: true when the body is signed with the secret, at most so long ago. */
export function isSignedBy(
  body: string,
  options: { signature: string; secret: string; nowSeconds: number; ageSecondsMax: number },
): boolean {
  const seconds = Number(/(?:^|,)t=(\d+)/.exec(options.signature)?.[1] ?? Number.NaN);
  if (!(Math.abs(options.nowSeconds - seconds) <= options.ageSecondsMax)) return false;
  const wanted = Buffer.from(signWebhook(body, { secret: options.secret, seconds }));
  const given = Buffer.from(options.signature);
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}

/**
 * Addresses that no webhook leads to: those of the link itself, where clouds keep credentials of their machines, and
 * those that are nobody's. Loopback and private networks are allowed: that is where operators' own tools are.
 */
const refused = new BlockList();
refused.addSubnet('169.254.0.0', 16, 'ipv4');
refused.addSubnet('0.0.0.0', 8, 'ipv4');
refused.addSubnet('224.0.0.0', 4, 'ipv4');
refused.addAddress('255.255.255.255', 'ipv4');
refused.addSubnet('fe80::', 10, 'ipv6');
refused.addSubnet('ff00::', 8, 'ipv6');
refused.addAddress('::', 'ipv6');
refused.addAddress('fd00:ec2::254', 'ipv6');

export function isRefusedAddress(address: string): boolean {
  const family = isIP(address);
  return family === 0 || refused.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** Null when it can be sent to; otherwise what is wrong and what to give instead, without the address itself. */
export function webhookUrlFault(text: string): string | null {
  if (!URL.canParse(text)) return 'is not a URL; send one like https://ops.example/tidemark';
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    return `begins with ${url.protocol}; send a URL with http: or https:`;
  }
  if (url.username !== '' || url.password !== '') {
    return 'holds a user or a password, which would stand in logs; the signature tells who sends';
  }
  if (url.hash !== '') return 'has a fragment, which is never sent; leave out what comes after #';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0 && isRefusedAddress(host)) return `leads to ${host}, which no webhook is sent to`;
  return null;
}

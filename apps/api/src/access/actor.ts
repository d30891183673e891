// Who asks, and what they may do: roles in the order of what they allow.

export const ROLES = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export interface Actor {
  /** Of the token; `local` where none is needed. Runs and the audit log carry it. */
  readonly name: string;
  readonly role: Role;
  /** Null where none is needed. */
  readonly tokenId: string | null;
  /** Selector over the labels of volumes; empty: all there is. */
  readonly scope: string;
}

/** Whoever reaches the api where no token is needed: on loopback alone. */
export const LOCAL_ACTOR: Actor = { name: 'local', role: 'admin', tokenId: null, scope: '' };

/** Whoever calls what needs no token. */
export const NOBODY: Actor = { name: 'anybody', role: 'viewer', tokenId: null, scope: '' };

/** A token of such a name would own what nobody asked for: runs carry the name of who did. */
export const RESERVED_NAMES: readonly string[] = [LOCAL_ACTOR.name, NOBODY.name, 'system'];

export function mayAct(actor: Actor, least: Role): boolean {
  return ROLES.indexOf(actor.role) >= ROLES.indexOf(least);
}

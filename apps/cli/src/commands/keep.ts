// Options that say what is kept: how many of the newest, and of how many hours, days and so on the newest.
import type { Schema } from '@tidemark/client';
import type { Command } from 'commander';
import { parseCount } from './context.ts';

export const KEEP_RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

const PERIOD_WORDS = {
  hourly: 'hours',
  daily: 'days',
  weekly: 'weeks',
  monthly: 'months',
  yearly: 'years',
} as const;

type Keep = Schema<'Prune'>['keep'];

export type KeepOptions = Record<`keep${string}`, number | undefined>;

export function withKeep(command: Command): Command {
  for (const rule of KEEP_RULES) {
    const what =
      rule === 'last' ? 'so many of the newest' : `the newest of so many ${PERIOD_WORDS[rule]} that have one`;
    command.option(`--keep-${rule} <count>`, `keep ${what}`, parseCount);
  }
  return command;
}

/** Undefined where none is given. */
export function keepOf(options: KeepOptions): Keep | undefined {
  const given = KEEP_RULES.flatMap(rule => {
    const count = options[`keep${rule[0]!.toUpperCase()}${rule.slice(1)}`];
    return count === undefined ? [] : [[rule, count] as const];
  });
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

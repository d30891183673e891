// The states of a job, the ways between them, and which verb each state accepts (scenario tables 2.1, 2.2).

export const JOB_STATES = [
  'created',
  'running',
  'paused',
  'ready',
  'standby',
  'waiting',
  'pending',
  'aborting',
  'concluded',
  'null',
] as const;
export type JobState = (typeof JOB_STATES)[number];

export const JOB_VERBS = [
  'cancel',
  'pause',
  'resume',
  'set-speed',
  'complete',
  'finalize',
  'dismiss',
] as const;
export type JobVerb = (typeof JOB_VERBS)[number];

const TRANSITIONS: Readonly<Record<JobState, readonly JobState[]>> = {
  created: ['running', 'aborting', 'null'],
  running: ['paused', 'ready', 'waiting', 'aborting'],
  paused: ['running'],
  ready: ['standby', 'waiting', 'aborting'],
  standby: ['ready'],
  waiting: ['pending', 'aborting'],
  pending: ['aborting', 'concluded'],
  aborting: ['aborting', 'concluded'],
  concluded: ['null'],
  null: [],
};

const LIVE: readonly JobState[] = ['created', 'running', 'paused', 'ready', 'standby'];

const VERB_STATES: Readonly<Record<JobVerb, readonly JobState[]>> = {
  cancel: [...LIVE, 'waiting', 'pending'],
  pause: LIVE,
  resume: LIVE,
  'set-speed': LIVE,
  complete: ['ready', 'standby'],
  finalize: ['pending'],
  dismiss: ['concluded'],
};

export function mayChange(from: JobState, to: JobState): boolean {
  return TRANSITIONS[from].includes(to);
}

export function acceptsVerb(state: JobState, verb: JobVerb): boolean {
  return VERB_STATES[verb].includes(state);
}

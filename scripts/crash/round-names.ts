/** Names for what a round makes, none of them twice: `WHAT-rROUND-COUNT`. */
export type RoundNames = (what: string) => string;

export function roundNames(round: number): RoundNames {
  let count = 0;
  return what => {
    count += 1;
    return `${what}-r${round}-${count}`;
  };
}

// Volumes that another storage node owns, or that came from one, as differences.
import { type Sides, VOLUME } from './both-sides.ts';

const ownedElsewhere = (sides: Sides): void => {
  sides.catalog.volumes = [];
  sides.catalog.checkpoints = [];
  sides.catalog.elsewhere = [{ id: VOLUME, name: 'disk', noun: 'volume' }];
};

/** As the cases of compare.test.ts. */
export const MOVED_CASES: [what: string, change: (sides: Sides) => unknown, expected: string[]][] = [
  ['a volume of another storage node', ownedElsewhere, ['volume-unknown → null']],
  [
    'a sealed volume that has moved to another storage node',
    sides => {
      ownedElsewhere(sides);
      sides.volume.volume.state = 'sealed';
    },
    ['volume-unknown → remove'],
  ],
  [
    'a volume that has moved here and was never opened',
    sides => {
      sides.volume.volume.state = 'arrived';
      sides.volume.volume.exportUri = '';
    },
    ['volume-arrived-left → open'],
  ],
  [
    'a volume that was sealed for a move and did not move',
    sides => {
      sides.volume.volume.state = 'sealed';
      sides.volume.volume.exportUri = '';
    },
    ['volume-sealed-left → unseal'],
  ],
];

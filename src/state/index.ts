// The state managers: what a runtime keeps of a sequence between steps.
export { type BlockSizes, blockMasses, heaviest, type PartialMass, partialMass } from './blocks.ts';
export { type Found, GroupState } from './group.ts';
export { type HeadGroup, type Layout, layoutOf, type ModelShape, rowLimit } from './layout.ts';
export { Pool, pageRows } from './pool.ts';
export { RecentQueries } from './queries.ts';
export { queryVectors, recentQueries, type SelectShape, select, selectHead } from './retrieval.ts';
export { type Angles, anglesOf, type Rotation, rotateRows } from './rotation.ts';
export { RowBuffer } from './rows.ts';
export type { Products } from './scores.ts';
export {
  type RawRows,
  type Retrieved,
  SequenceState,
  type SessionMemory,
} from './sequence.ts';
export { StateSnapshots } from './snapshots.ts';

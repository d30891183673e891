// Groups of volumes of one instant, and the hooks around it, over gRPC.
import {
  GroupCommitted,
  GroupFenced,
  type GroupMember,
  GroupReleased,
  type GroupRequest,
  type GroupServiceServer,
  GroupServiceService,
  HookResult,
  UndecidedGroup,
} from '@tidemark/proto';
import type { Group, ReleaseAnswer } from '../group/group.ts';
import type { MemberRequest } from '../group/group-member.ts';
import type { Groups } from '../group/groups.ts';
import type { Hooks } from '../group/hooks.ts';
import { checkTexts } from './checkpoint-service.ts';
import { type CallContext, query, step } from './handlers.ts';
import type { GrpcService } from './server.ts';

interface GroupServiceOptions {
  readonly context: CallContext;
  readonly groups: Groups;
  readonly hooks: Hooks;
}

// Answered again by what the host knows of its groups: an answer of the ledger would be written while guests wait, and
// could speak of a group that ended with an earlier life of the process.
export function groupService({ context, groups, hooks }: GroupServiceOptions): GrpcService {
  const methods = GroupServiceService;
  const inTurn = <T>({ groupId }: GroupRequest, runId: string, action: (group: Group) => Promise<T>) =>
    groups.inTurn({ groupId, runId }, action);
  const implementation: GroupServiceServer = {
    prepareGroup: step(context, methods.prepareGroup, 'do-again', async (request, { runId }) => {
      const { groupId, groupName, fenceLimitMs } = request;
      const members = request.members.map(toMemberRequest);
      await groups.prepare({ groupId, groupName, runId, members, fenceLimitMs });
      return { members: members.length };
    }),
    fenceGroup: step(context, methods.fenceGroup, 'do-again', (request, { runId }) =>
      inTurn(request, runId, async group => GroupFenced.fromPartial(await group.fence())),
    ),
    commitGroup: step(context, methods.commitGroup, 'do-again', (request, { runId }) =>
      inTurn(request, runId, async group => {
        const { instants, ...told } = await group.commit();
        return GroupCommitted.fromPartial({ ...told, members: instants });
      }),
    ),
    releaseGroup: step(context, methods.releaseGroup, 'do-again', (request, { runId }) =>
      inTurn(request, runId, async group => toReleased(await group.release())),
    ),
    decideGroup: step(context, methods.decideGroup, 'do-again', async ({ groupId, keep }, { runId }) => {
      await groups.decide({ groupId, runId, keep });
      return {};
    }),
    listGroups: query(context, methods.listGroups, () => ({ groups: groups.undecided().map(toUndecided) })),
    runHook: step(context, methods.runHook, 'answer-again', async request =>
      HookResult.fromPartial(await hooks.run(request)),
    ),
  };
  return { definition: methods, implementation };
}

/** Throws `invalid-name`, `invalid-request`. */
function toMemberRequest(member: GroupMember): MemberRequest {
  checkTexts({ name: member.checkpointName, description: member.checkpointDescription });
  return member;
}

function toReleased({ proof, ...answer }: ReleaseAnswer): GroupReleased {
  return GroupReleased.fromPartial({ ...answer, ...proof });
}

function toUndecided(group: Group): UndecidedGroup {
  const { groupId, groupName, members, sinceMs, runId } = group.record;
  const { state, isInDoubt: inDoubt } = group;
  return UndecidedGroup.fromPartial({ groupId, groupName, members, sinceMs, runId, state, inDoubt });
}

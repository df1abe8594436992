//! The behaviour of Kafka on which the accounting rests, seen on a real broker:
//! one test for each fact. The first table is about Kafka and librdkafka alone. The
//! second is about ringback: a proxy before its broker makes the fault happen.
//!
//! | fact | test |
//! |---|---|
//! | a plain commit for a partition that has another owner by now is accepted and overwrites the owner's | `commits::a_commit_for_a_partition_that_has_another_owner_…` |
//! | while Join waits, commits queue behind it and are refused whole; the same list is accepted again, also for what was lost | `commits::a_commit_during_a_rebalance_…` |
//! | the same while SyncGroup waits | `commits::a_commit_while_the_leaders_sync_…` |
//! | an older commit lands after a newer one where the socket's timeout is below the session's | `commits::an_older_commit_lands_after_…` |
//! | with the socket's timeout above the session's the late one is refused | `commits::an_older_commit_is_refused_…` |
//! | joining under the same name costs no rebalance and fences what is in the network | `commits::joining_under_the_same_name_…` |
//! | offsets of another member's partition are accepted with group metadata of now, refused (IllegalGeneration) with that from before the rebalance | `transactions::offsets_of_another_members_partition_…` |
//! | after a restart under the same name the predecessor gets FencedInstanceId, a member that left UnknownMemberId | `transactions::a_predecessor_of_the_same_name_…` |
//! | all three are abortable: the abort works, and the next transaction | both of these |
//! | a commit's answer lost: commit says retriable, abort is refused as conflicting, commit again succeeds | `transactions::a_commit_whose_answer_is_lost_…` |
//! | a transaction that the coordinator timed out ends in the same fatal error as one whose producer's id another process takes | `transactions::a_transaction_that_timed_out_…` |
//! | pending offsets cannot be read; a dead producer's for its timeout and the broker's scan | `transactions::offsets_of_an_open_transaction_…` |
//! | a plain commit beside a pending one is accepted and wins | `transactions::a_plain_commit_beside_…` |
//! | a sole static member that restarts with one more topic never gets it | `groups::a_sole_static_member_…` |
//! | leaving hands over at once, closing alone after the session | `groups::leaving_hands_partitions_over_…` |
//! | partitions revoked from a static member before it died stay unassigned for good | `groups::partitions_revoked_…` |
//! | a committed offset beyond the log's end gives offset 0 in silence with `earliest` | `positions::a_committed_offset_beyond_…` |
//! | a deleted topic's offsets are dropped; a running member's old one is accepted for the new topic | `positions::a_deleted_topics_offsets_…` |
//!
//! | ringback | test in `service` |
//! |---|---|
//! | a commit answered late, although Ok: re-adoption | `a_commit_answered_ok_after_more_than_a_second_…` |
//! | an older commit that lands after newer ones | `an_older_commit_that_lands_…` |
//! | EndTxn carried out, its answer lost | `a_transaction_that_was_carried_out_…` |
//! | a transaction that the coordinator timed out: fenced, although no other process uses the name | `a_transaction_that_the_coordinator_timed_out_…` |
//! | SyncGroup held back | `a_sync_that_is_held_back_…` |
//! | the coordinator gone | `a_coordinator_that_is_gone_…` |
//! | any message cut | `a_cut_in_any_exchange_…` |
//! | a dead replica's transaction freezes its delay partition, and for how long | `a_dead_replicas_transaction_…` |
//! | a schedule with one more delay under the same name | `a_schedule_with_one_more_delay_…` |
//! | gaps from markers, lag that reaches 0 | `markers_of_transactions_…` |
//! | a replica killed between revoking partitions and joining again | `partitions_revoked_from_a_killed_replica_…` |
//!
//! A committed offset beyond the log's end, and topics made again, under
//! ringback: `crate::moved`.

mod commits;
mod groups;
pub mod member;
mod positions;
mod service;
mod transactions;

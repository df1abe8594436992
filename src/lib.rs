//! ringback delivers call-ended records from a Kafka topic to the callback URLs
//! of tenants. Nothing is lost, no record is POSTed more than ten times, and a
//! dead tenant does not slow a healthy one. Kafka is the only state.
//!
//! # The flow of a record
//! ```text
//! Kafka record -> CallEnded -> tenant -> lane -> reservation -> attempt -> Outcome -> Verdict -> Disposition -> commit
//!                                                                 Delivered      2xx
//!                                                                 Delayed        failed, attempts left
//!                                                                 Diverted       too long a wait in the lane, nothing sent
//!                                                                 DeadLettered   last attempt failed, unreadable, too old
//!                                                                 Skipped        the tenant has no callback
//! ```
//! A record has one Kafka position, its *residence*: in the source topic, in a
//! delay topic, or among the dead letters. A *move* is one transaction that writes
//! the record to its next residence and completes the old one.
//!
//! | word | meaning |
//! |---|---|
//! | listed | an offset that the committed map names, and whose record was not read again yet |
//! | marker | the record with which Kafka ends a transaction in a partition: commit or abort |
//! | held back | of a lane: its tenant's limit or pause, or its share of the slots, allows no further start |
//! | log bounds | where a partition's log starts and ends |
//! | fenced | refused by Kafka, because a later client has taken the same name |
//! | generation | the number of a rebalance callback of this process |
//!
//! # How the promises are kept
//! - Each offset write is a snapshot of its partition. It holds the offset to read
//!   from, and in its metadata the map of unfinished and reserved offsets
//!   ([`engine::map`]). Each partition has at most one outstanding write.
//! - **Reserve, then send.** An attempt starts only after its reservation is
//!   committed. After a crash, a reserved offset is *in doubt*: the record moves on
//!   with one attempt charged, and is never sent again from that residence. So one
//!   residence costs at most one POST and one of the ten attempts, whichever
//!   process stops.
//! - A POST counts once it may have been processed. Where an HTTP/2 receiver says that
//!   it has not processed one, the same attempt sends it again ([`http`]).
//! - A reservation is a lease of two seconds from the moment its write was sent.
//! - Every unclear outcome ends in a *re-adoption*: a restart of the Kafka session.
//!   It drops the consumer, the producer and the state of all partitions, joins
//!   again under the same name, and reads the committed state. It is crash recovery
//!   inside the process.
//!
//! # The laws
//! The engine asserts them. The simulator (`tests/sim`) and tests with real
//! processes check them. The code cites them by number.
//!
//! | law | says |
//! |---|---|
//! | L1 no loss | no commit passes an offset whose record has no durable disposition |
//! | L2 order | the committed offset of a partition never goes back within a generation; each partition has at most one outstanding write |
//! | L3 tries | no attempt from a residence that is not reserved, whose lease is over, or that is in doubt; none after the last attempt |
//! | L4 not early | no delayed record is attempted before it is due |
//! | L5 bounds | no queue, map or count of work exceeds its limit |
//! | L6 fairness | between two starts of one ready lane, every other ready lane gets one; a lane is not ready while the partition of its records waits for a write |
//! | L7 liveness | once faults stop, every record reaches a disposition |
//! | L8 fencing | an event of a revoked generation changes nothing of the present one |
//! | L9 drain | after the start of a drain no attempt starts, and the engine stops by the deadline |
//! | L10 containment | a fault of one tenant, record, partition, destination topic or broker delays or charges only the records that need it |
//!
//! # Code map
//! | module | purpose | may use |
//! |---|---|---|
//! | [`model`] | plain values: positions, records, tenants, messages, facts | nothing else of the crate |
//! | [`engine`] | all decisions, also about Kafka sessions, as a pure state machine: events and the time go in, actions come out | `model` |
//! | [`kafka`] | shell for librdkafka: sessions, commits, transactions, administration | `model` |
//! | [`http`] | shell for reqwest: sends attempts, resolves names, refuses addresses, signs | `model`, `clock` |
//! | [`config`] | shell for settings, environment and files | `model` |
//! | [`telemetry`] | shell for metrics and log lines | `model` |
//! | [`admin`] | shell for the operators' pages | `model` |
//! | [`search`] | what the commands that read say about records, and which they select; pure | `model`, `engine` |
//! | [`jobs`] | replays and redrives: copies records to a delay topic, each once, while the service runs | `model`, `kafka`, `clock`, `search` |
//! | [`runner`] | the loop that connects engine and shells; spawns the threads of the service | everything |
//! | [`service`] | builds the service from settings, for `run` and `demo` | everything |
//! | [`commands`], [`demo`] | the commands of the program | everything |
//! | [`contract`] | the contract of a callback as data: schema, OpenAPI and tables from it | `model` |
//! | [`receive`] | a receiver to try tenants with | `model`, `contract`, `http`, `clock`, `shutdown` |
//!
//! `tests/tidy` checks these borders, and that no imports form a circle.
//!
//! To follow one record, read [`engine`] first: its files are in the order of a
//! record's way. To follow one message, read [`model::message`] and then [`runner`].
//!
//! # Threads
//! - The runner's thread runs the engine, and attempts to tenants that answer.
//! - Attempts to other tenants are isolated: they run on threads of their own. A
//!   receiver that floods its answer slows only attempts on these threads.
//! - Each Kafka session has four threads: one polls the consumer, one commits, one
//!   runs transactions, one reads committed maps, log ends and topic ids.
//! - The watchdog ends the process when a Kafka call hangs although the brokers
//!   answer other calls. One of its threads watches the calls, one asks the brokers.
//! - The operators' pages, the writer of the log, the counts of jobs and the reads of
//!   topic settings have one thread each. So have the reloads of the tenants, of the
//!   certificates and of the files of Kafka, and the answers to the attempt log.
//!
//! Queues connect the threads. The engine requests every record that it gets, and
//! so bounds the length of each queue.
//!
//! # Deliberately absent
//! Mocks, a database, ordering between records, and any use of a tenant's answer
//! beyond its status line and headers.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod contract;
pub mod demo;
pub mod engine;
pub mod exit;
pub mod http;
pub mod jobs;
pub mod kafka;
pub mod model;
pub mod receive;
pub mod runner;
pub mod search;
pub mod service;
pub mod shutdown;
pub mod telemetry;

//! ringback delivers call-ended records from a Kafka topic to the URLs that
//! tenants have configured. Nothing is lost, no record is POSTed more than ten
//! times, and a dead tenant does not slow a healthy one. Kafka is the only state.
//!
//! # The flow
//! ```text
//! Kafka record -> CallEnded -> tenant -> lane -> reserved -> attempt -> Outcome -> Verdict -> Disposition -> commit
//!                                                              Delivered            2xx
//!                                                              Delay(delay)         failed, attempts left
//!                                                              Divert(delay)        lane full, nothing sent
//!                                                              DeadLetter(reason)   last attempt failed, unreadable, too old
//!                                                              skipped              the tenant has no callback
//! ```
//! A record lives at one Kafka position, its residence: in the source topic, in
//! the topic of a delay, or among the dead letters. A *move* is one transaction
//! that writes it to its next residence and completes the old one.
//!
//! # How the promises are kept
//! - Each offset write is a snapshot of its partition: the base to read from,
//!   and in the commit's metadata the map of what is unfinished and what is
//!   reserved ([`engine::offsets`]). One write per partition is outstanding.
//! - **Reserve, then send.** Before an attempt starts, its reservation has been
//!   committed. After a crash a reserved offset is *in doubt*: it is moved on
//!   with one attempt charged and never sent from again. So one residence costs
//!   at most one POST and one of ten, whoever dies.
//! - A reservation is a lease of two seconds from the moment its write was sent.
//! - Every unclear outcome has one way out, *re-adoption*: drop consumer,
//!   producer and all partition state, take up the same name again, read what
//!   Kafka knows. It is crash recovery inside the process.
//!
//! # The laws
//! Asserted in the engine, checked by the simulator (`tests/sim`) and against
//! real processes, cited by number in the code:
//!
//! | law | says |
//! |---|---|
//! | L1 no loss | no commit passes an offset whose record has not reached a durable disposition |
//! | L2 order | a partition's committed offset never goes back within a generation; one write per partition is outstanding |
//! | L3 tries | no attempt from a residence that is not reserved, whose lease is over, or that is in doubt; none after the last |
//! | L4 not early | no delayed record is attempted before it is due |
//! | L5 bounds | no queue, map or count of work exceeds its limit |
//! | L6 fairness | between two starts of one ready lane every other ready lane gets one; none is ready while its records' partition waits for a write |
//! | L7 liveness | once faults stop, every record reaches a disposition |
//! | L8 fencing | an event of a revoked generation changes nothing of the present one |
//! | L9 drain | after a drain begins no attempt starts, and the engine stops by the deadline |
//!
//! # Who may know whom
//! [`model`] knows nobody. [`engine`] knows `model` and is a pure state machine:
//! events and the time go in, actions come out. Each shell ([`kafka`], [`http`],
//! [`admin`], [`config`], [`telemetry`]) knows `model` and its own library;
//! `http` also asks [`clock`] how long a connection is idle.
//! [`runner`] connects them all. `tests/tidy` checks this.
//!
//! # Threads
//! One OS thread owns the Kafka consumer and polls it; one commits; one runs
//! the transactions; one reads committed maps, log ends and topic ids, which
//! may take long. A watchdog's thread ends the process where one of them does
//! not come back although the brokers answer others. The runner's loop and
//! the attempts to tenants that are known to answer share one thread with a
//! tokio runtime. Those to others have threads of their own, where one that
//! floods holds up its like only, and the operators' pages have another. The
//! seams are queues whose lengths the engine bounds by asking for every record
//! it gets.
//!
//! # Deliberately absent
//! Traits with one implementor, mocks, a database, ordering between records,
//! and any read of a tenant's answer beyond its status.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod demo;
pub mod engine;
pub mod exit;
pub mod http;
pub mod kafka;
pub mod model;
pub mod receive;
pub mod runner;
pub mod service;
pub mod shutdown;
pub mod telemetry;

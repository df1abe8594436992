//! Integration tests: the built program against a real Apache Kafka and
//! scripted receivers. `tests/run` brings what they need.

mod support;

mod alerts;
mod attempt_log;
mod attempts;
mod bad_input;
mod brokers;
mod certificates;
#[path = "../chaos/mod.rs"]
mod chaos;
mod chaos_program;
mod commands;
mod contract;
mod contract_files;
mod crash;
mod crash_loop;
mod dashboards;
mod deploy;
mod drain;
mod find;
mod guide;
mod hanging_calls;
mod harness;
mod hostile;
mod jobs;
mod kafka_facts;
mod kills;
mod lanes;
mod memory;
mod moved;
mod others;
mod outages;
mod pages;
mod readme;
mod receive;
mod refused;
mod replay;
mod runbook;
mod scaling;
mod scan;
mod security;
mod settings;
mod signatures;
mod slow_brokers;
#[path = "../soak/mod.rs"]
mod soak;
mod tenant_commands;
mod tenant_test;
mod tenants;
mod tenants_topic;
mod unreachable;
mod waiting;

//! Integration tests: the built program against a real Apache Kafka and
//! scripted receivers. `tests/run` brings what they need.

mod support;

mod harness;

//! ran
mod commits;
mod groups;
mod member;
mod positions;
mod service;
mod transactions;

//! ringback

pub mod cli;
pub mod commands;
pub mod config;
pub mod engine;
pub mod model;
pub mod shutdown;

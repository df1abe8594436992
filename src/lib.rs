//! ringback

pub mod admin;
pub mod clock;
pub mod engine;
pub mod http;
pub mod model;
pub mod telemetry;

//! ringback

pub mod engine;
pub mod kafka;
pub mod model;

//! What holds of any event, any environment and any tags. The fuzz targets look for input that breaks
//! it; `tests/properties.rs` includes these files, for a short run over random input and the corpus.

pub mod config;
pub mod event;
pub mod text;

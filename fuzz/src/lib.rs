//! Properties that hold for any event, any environment and any tags. The fuzz targets search for input
//! that breaks them. `tests/it/properties.rs` includes these files for a short run over random input and
//! the corpus.

pub mod config;
pub mod event;
pub mod text;

#![recursion_limit = "256"]
mod support {
    #[path = "../../it/support/fake.rs"]
    pub mod fake;
}
#[path = "../it/model.rs"]
mod model;

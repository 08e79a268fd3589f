//! Facts about the UCServers: what they are, how they are, and the snapshot decisions read.

pub mod document;
mod gate;
pub mod health;
mod plane;
mod realm;
mod score;
mod server;
mod ties;
mod view;

pub use gate::{Gate, Requirement};
pub use plane::{Plane, Planes};
pub use realm::Realms;
pub use server::{BindingAddress, HealthDocumentUse, NotAVersion, Server, ServerId, Version};
pub use ties::Ties;
pub use view::{
    ClusterView, Failure, PlaneState, PlaneView, Proof, ServerView, State, Suspect, Suspicion,
};

//! The score of a server: one formula, in one place.

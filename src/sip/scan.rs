//! Low-level scanning shared by the readers.

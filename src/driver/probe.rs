//! What this kernel and this process may use.

//! What is inside a message: MIME structure, envelope, character sets.

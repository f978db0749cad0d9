//! The `json` dialect: one object a text message. `docs/PROTOCOL.md` is its contract.
//!
//! | to find | look in |
//! |---|---|
//! | what a client's message asks for | `request` |
//! | what a backend's message asks for | `backend` |
//! | the members of its object, as the parser and as the text has them | `fields` |
//! | where they stand in the text, byte by byte | `scan` |
//! | what a publication by HTTP asks for | `posted` |
//! | what is relayed of it | `signature` |
//! | which types are an application's own | `types` |
//! | what clients are told | `text` |
//! | messages with their place in the topic | `envelope` |
//! | what is wrong with their messages | `problem` |
//! | the spelling of client ids and epochs | `ids` |

mod backend;
mod envelope;
mod fields;
mod ids;
mod posted;
mod problem;
mod request;
mod scan;
mod signature;
#[cfg(test)]
mod tests;
mod text;
mod types;

pub use backend::instruction;
pub use envelope::{envelope, is_value, push_data};
pub(super) use ids::Epoch;
pub use ids::{MAX_OFFSET, client_id_text, epoch_text, parse_client_id, parse_epoch};
pub use posted::{Posted, posted};
pub use problem::Problem;
pub use request::{MAX_ID_BYTES, id_of, message};
pub use signature::{placed, signed};
pub use text::{event, placed_at, type_of};
pub use types::{BadType, Destination, Types};

//! One message through one provider. A [`Provider`] says how a message is asked for and what an answer means; a [`Delivery`]
//! does the rest, the same for all of them: the exchange, the policy where nobody knows whether the message went,
//! remembering addresses that the provider calls inactive, and previews. Providers are configured by variables ([`configuration`]).

pub mod configuration;
mod delivery;
mod mode;
mod provider;
pub mod request;
mod ruling;

pub use delivery::{Delivery, Preview};
pub use mode::{Mode, misconfigured, readiness};
pub use provider::{Impossible, Provider};
pub use ruling::{Outcome, Ruling, by_status, json};

mod ageing;
mod connecting;
mod joining;
mod losing;
mod requests;

mod ageing;
mod connecting;
mod losing;
mod requests;

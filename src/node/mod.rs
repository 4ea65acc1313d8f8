//! Layer 6: what native processes are made of besides the protocol: settings, key files, roles, the page's web server.

pub mod backup;
pub mod children;
pub mod data;
pub mod doctor;
pub mod domain;
pub mod followers;
pub mod lines;
pub mod manager;
pub mod objects;
pub mod occupancy;
pub mod pairing;
pub mod qr;
pub mod relay;
pub mod replica;
pub mod settings;
pub mod shelf;
pub mod web;
pub mod work;

//! The native platform: tokio, and QUIC, TCP, WebSocket, WebRTC-direct and circuits.

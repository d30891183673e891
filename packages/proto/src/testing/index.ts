// Test helpers for whoever speaks TLS.
export * from './certificates.ts';

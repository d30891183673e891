#!/usr/bin/env node
// Finds the right Node.js and starts the storage daemon on it.
import { launch } from '../../../scripts/launch.mjs';

await launch(new URL('../src/qmp/daemon-main.ts', import.meta.url));

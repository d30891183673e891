#!/usr/bin/env node
// Finds the right Node.js and starts the storage node on it.
import { launch } from '../../../scripts/launch.mjs';

await launch(new URL('../src/main.ts', import.meta.url));

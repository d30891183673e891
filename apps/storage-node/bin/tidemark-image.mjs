#!/usr/bin/env node
// Finds the right Node.js and starts the image tool on it.
import { launch } from '../../../scripts/launch.mjs';

await launch(new URL('../src/image-tool/main.ts', import.meta.url));

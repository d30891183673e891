// The base of a snapshot stays writable: scenario SN-01 must notice.
import { FileNode } from '@tidemark/engine';

FileNode.prototype.prepareReopen = () => Promise.reject(new Error('this file cannot be reopened'));

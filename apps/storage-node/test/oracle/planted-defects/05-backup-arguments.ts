// Two jobs may have one id: scenario BK-V10 must notice.
import { JobRegistry } from '@tidemark/engine';

JobRegistry.prototype.assertIdFree = () => {};

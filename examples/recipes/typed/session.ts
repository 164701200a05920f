import { connect } from 'stillhere/app';

import type { List } from './contract';

const response = await fetch('/typed/ticket', { method: 'POST' });
export const session = connect<List>(await response.json());

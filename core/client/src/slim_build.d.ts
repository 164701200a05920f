/**
 * True in the build of the slim client, which then lacks everything that is used only if this is
 * false: new tickets, tickets of earlier documents, and other kinds of connections than WebSockets.
 */
declare const SLIM: boolean;

// A kind of connection for stillhere: a WebRTC data channel, agreed on by one POST to `/rtc/` and the session's id.
// Binary messages are frames; a text message is the last: the code with which its sender closes.

/** Milliseconds for the channel to open. */
const OPENING = 5_000;

window.stillhere.registerConnection('webrtc', ({ url, onopen, onmessage, onclose }) => {
  const peer = new RTCPeerConnection();
  const channel = peer.createDataChannel('stillhere');
  channel.binaryType = 'arraybuffer';
  let isOver = false;

  const over = (code) => {
    if (isOver) return;
    isOver = true;
    clearTimeout(opening);
    peer.close();
    onclose(code);
  };
  const opening = setTimeout(over, OPENING);

  channel.onopen = () => {
    clearTimeout(opening);
    onopen();
  };
  channel.onmessage = ({ data }) => (typeof data === 'string' ? over(Number(data)) : onmessage(data));
  channel.onclose = () => over();
  // A peer that is gone without a word: the channel stays "open" for ever. A new connection costs less than waiting for this one to come back.
  peer.onconnectionstatechange = () => {
    if (['disconnected', 'failed', 'closed'].includes(peer.connectionState)) over();
  };
  negotiate(peer, url).catch(() => over());

  return {
    get bufferedAmount() { return channel.bufferedAmount; },
    send: (frame) => channel.send(frame),
    /** What was sent before still goes out. */
    close: (code) => {
      if (channel.readyState !== 'open') return queueMicrotask(() => over(code));
      channel.send(String(code));
      channel.close();
    },
  };
});

async function negotiate(peer, url) {
  await peer.setLocalDescription();
  const answer = await fetch(`/rtc/${url.split('/').pop()}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(peer.localDescription),
  });
  if (!answer.ok) throw new Error(await answer.text());
  await peer.setRemoteDescription(await answer.json());
}

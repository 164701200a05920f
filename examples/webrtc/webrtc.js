// A kind of connection for stillhere: a WebRTC data channel, negotiated by one POST to `/rtc/` plus
// the session's id. Binary messages are frames. A text message comes last and contains the sender's
// close code.

/** Time limit in milliseconds for the channel to open. */
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
  // If the peer disappears without closing, the channel stays "open" forever. A new connection
  // costs less than waiting for this one to recover.
  peer.onconnectionstatechange = () => {
    if (['disconnected', 'failed', 'closed'].includes(peer.connectionState)) over();
  };
  negotiate(peer, url).catch(() => over());

  return {
    get bufferedAmount() { return channel.bufferedAmount; },
    send: (frame) => channel.send(frame),
    /** Closes the channel after the frames sent so far. */
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

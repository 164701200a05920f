// Two small charts on canvas. Times are in milliseconds, on the clock of performance.now().

/** A canvas scaled to the screen's pixels, with the page's colours. */
class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /** Clears the canvas and returns its size in CSS pixels. */
  begin() {
    const { canvas, context } = this;
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    context.font = `11px ${style.fontFamily}`;
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return { width, height };
  }
}

/**
 * Messages received per second over the last minute: from the server upwards, from the page
 * downwards.
 */
export class StreamChart {
  /** Height at which a burst is clipped. Its number of messages is written beside it. */
  static TOP = 450;
  static SPAN = 60_000;

  #drawing;
  #samples = { down: [], up: [] };
  #outages = [];
  #marks = [];

  constructor(canvas) {
    this.#drawing = new Drawing(canvas);
  }

  /** Adds `count` messages received in the `duration` before `time`. */
  sample(stream, time, duration, count) {
    this.#samples[stream].push({ from: time - duration, to: time, count, rate: (1000 * count) / Math.max(duration, 1) });
    this.#forget(time);
  }

  /** Marks a fault in the connection. */
  mark(time, label) {
    this.#marks.push({ time, label });
  }

  cutOff(time) {
    if (this.#outages.at(-1)?.to !== null) this.#outages.push({ from: time, to: null });
  }

  back(time) {
    const outage = this.#outages.at(-1);
    if (outage?.to === null) outage.to = time;
  }

  #forget(now) {
    const old = now - StreamChart.SPAN - 5_000;
    const forget = (list, time) => {
      while (list.length > 0 && time(list[0]) < old) list.shift();
    };
    forget(this.#samples.down, (sample) => sample.to);
    forget(this.#samples.up, (sample) => sample.to);
    forget(this.#outages, (outage) => outage.to ?? now);
    forget(this.#marks, (mark) => mark.time);
  }

  draw(now) {
    const { width, height } = this.#drawing.begin();
    const { context, colour } = this.#drawing;
    const span = width < 500 ? StreamChart.SPAN / 2 : StreamChart.SPAN;
    // The chart runs half a second behind, so that each bin is complete before it is visible.
    const x = (time) => width - ((now - 600 - time) / span) * width;
    const top = 22;
    const middle = top + (height - top) / 2;
    const half = middle - top;

    for (const { from, to } of this.#outages) {
      const left = x(from);
      context.fillStyle = colour("out-soft");
      context.fillRect(left, top, Math.max(x(to ?? now) - left, 2), height - top);
    }
    this.#drawGrid(width, middle, half);
    this.#drawStream("down", x, width, middle, -half);
    this.#drawStream("up", x, width, middle, half);
    context.fillStyle = colour("line-strong");
    context.fillRect(0, middle - 0.5, width, 1);
    this.#drawMarks(x, width, top, height);
  }

  #drawGrid(width, middle, half) {
    const { context, colour } = this.#drawing;
    const y = (250 / StreamChart.TOP) * half;
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.setLineDash([2, 4]);
    context.beginPath();
    for (const at of [middle - y, middle + y]) {
      context.moveTo(0, at);
      context.lineTo(width, at);
    }
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour("quiet");
    context.textAlign = "left";
    context.fillText("250", 2, middle - y - 4);
    context.fillText("250", 2, middle + y + 12);
  }

  #drawStream(stream, x, width, middle, half) {
    const { context, colour } = this.#drawing;
    const samples = this.#samples[stream];
    if (samples.length === 0) return;
    const y = (rate) => middle + (Math.min(rate, StreamChart.TOP) / StreamChart.TOP) * half;

    const outline = new Path2D();
    outline.moveTo(x(samples[0].from), middle);
    for (const { from, to, rate } of samples) {
      outline.lineTo(x(from), y(rate));
      outline.lineTo(x(to), y(rate));
    }
    outline.lineTo(x(samples.at(-1).to), middle);
    context.fillStyle = colour(`${stream}-soft`);
    context.fill(outline);
    context.strokeStyle = colour(stream);
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.stroke(outline);

    // A burst spans one or two samples; its label is their sum.
    context.fillStyle = colour(stream);
    context.textAlign = "left";
    let burst = null;
    const write = () => {
      if (burst !== null && burst.count >= StreamChart.TOP) {
        const label = `${burst.count.toLocaleString("en")} at once`;
        const right = x(burst.to) + 5, length = context.measureText(label).width;
        context.fillText(label, right + length <= width ? right : x(burst.from) - 5 - length, middle + half + (half < 0 ? 12 : -6));
      }
      burst = null;
    };
    for (const sample of samples) {
      if (sample.rate > StreamChart.TOP) burst = { count: (burst?.count ?? 0) + sample.count, from: burst?.from ?? sample.from, to: sample.to };
      else write();
    }
    write();
  }

  #drawMarks(x, width, top, height) {
    const { context, colour } = this.#drawing;
    context.lineWidth = 1.5;
    let free = -Infinity;
    for (const { time, label } of this.#marks) {
      const at = x(time);
      if (at < -60) continue;
      context.strokeStyle = colour("out");
      context.setLineDash([4, 3]);
      context.beginPath();
      context.moveTo(at, 16);
      context.lineTo(at, height);
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = colour("out");
      context.beginPath();
      context.moveTo(at - 4, top - 6);
      context.lineTo(at + 4, top - 6);
      context.lineTo(at, top + 1);
      context.fill();
      const half = context.measureText(label).width / 2;
      const middle = Math.min(Math.max(at, half), width - half);
      if (middle - half > free) {
        context.textAlign = "center";
        context.fillText(label, middle, 11);
        free = middle + half + 6;
      }
    }
  }
}

/** Round trips of the last clicks, one bar each; another colour marks those during a transfer. */
export class ClickChart {
  static BAR = 5;
  /** Milliseconds above which a click must have waited for a connection. */
  static WAITED = 1_000;

  #drawing;
  #clicks = [];

  constructor(canvas) {
    this.#drawing = new Drawing(canvas);
  }

  click(milliseconds, besideTransfer) {
    this.#clicks.push({ milliseconds, besideTransfer });
    if (this.#clicks.length > 400) this.#clicks.shift();
  }

  draw() {
    const { width, height } = this.#drawing.begin();
    const { context, colour } = this.#drawing;
    const shown = this.#clicks.slice(-Math.floor(width / ClickChart.BAR));
    // The scale is at least 20 ms, or the noise of a fast network would fill the chart. Bars of
    // clicks that waited for a cut to end are clipped.
    const highest = Math.max(...shown.map((click) => click.milliseconds).filter((time) => time <= ClickChart.WAITED), 0);
    const top = [20, 50, 100, 200, 500].find((round) => round >= highest) ?? ClickChart.WAITED;
    context.fillStyle = colour("line");
    context.fillRect(0, 0, width, 1);
    context.fillRect(0, height - 1, width, 1);
    shown.forEach(({ milliseconds, besideTransfer }, index) => {
      const bar = Math.min(Math.max((milliseconds / top) * (height - 2), 2), height - 2);
      context.fillStyle = colour(milliseconds > ClickChart.WAITED ? "out" : besideTransfer ? "bulk" : "click");
      context.fillRect(width - (shown.length - index) * ClickChart.BAR, height - 1 - bar, ClickChart.BAR - 1.5, bar);
    });
    context.fillStyle = colour("quiet");
    context.textAlign = "left";
    context.fillText(`${top} ms`, 2, 12);
  }
}

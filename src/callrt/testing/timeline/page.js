"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const T = Math.max(data.duration, 0.001);
  const root = document.documentElement;
  const [audio, canvas, scroll, head, tip] = ["audio", "canvas", "scroll", "playhead", "tip"].map($);
  const clock = document.querySelector("#clock b");
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  document.body.classList.add("live");

  const words = (seconds) => {
    const tenths = Math.round(seconds * 10);
    const s = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
    return `${Math.floor(tenths / 600)}:${s}`;
  };

  // -- sound: mu-law in the page, 16-bit PCM in a WAV for the browser
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const table = Int16Array.from({ length: 256 }, (_, code) => {
    const u = ~code & 255;
    const size = (((u & 15) << 3) + 132 << ((u & 112) >> 4)) - 132;
    return u & 128 ? -size : size;
  });
  const wav = () => {
    const [left, right] = [bytes(data.left), bytes(data.right)];
    const view = new DataView(new ArrayBuffer(44 + left.length * 4));
    const text = (at, s) => [...s].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
    text(0, "RIFF"); view.setUint32(4, 36 + left.length * 4, true); text(8, "WAVEfmt ");
    view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 2, true);
    view.setUint32(24, 8000, true); view.setUint32(28, 32000, true); view.setUint16(32, 4, true);
    view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, left.length * 4, true);
    for (let i = 0, at = 44; i < left.length; i++, at += 4) {
      view.setInt16(at, table[left[i]], true);
      view.setInt16(at + 2, table[right[i]], true);
    }
    return URL.createObjectURL(new Blob([view], { type: "audio/wav" }));
  };
  const hasSound = data.left.length > 0;
  if (hasSound) { audio.src = wav(); $("save").href = audio.src; } else { $("save").hidden = true; }
  document.querySelector(".transport").hidden = false;

  // Left alone, right alone, both: gains in front of the loudspeakers, made at the first play.
  let gains = null, listen = "both";
  const mix = () => {
    if (!gains) return;
    const [a, b] = gains;
    a.gain.value = listen === "right" ? 0 : 1;
    b.gain.value = listen === "left" ? 0 : 1;
  };
  const wire = () => {
    if (gains || !window.AudioContext) return;
    const context = new AudioContext();
    const split = context.createChannelSplitter(2), merge = context.createChannelMerger(2);
    gains = [context.createGain(), context.createGain()];
    context.createMediaElementSource(audio).connect(split);
    gains.forEach((gain, i) => { split.connect(gain, i); gain.connect(merge, 0, i); });
    merge.connect(context.destination);
    mix();
  };
  document.querySelectorAll("[data-listen]").forEach((button) => button.addEventListener("click", () => {
    listen = button.dataset.listen;
    document.querySelectorAll("[data-listen]").forEach((b) => b.setAttribute("aria-pressed", b === button));
    mix();
  }));

  // -- position
  let position = 0;
  const timed = [...document.querySelectorAll(".said li[data-from], .turn")].map((node) => {
    const from = parseFloat(node.dataset.from ?? node.style.getPropertyValue("--t"));
    const to = node.dataset.to ? parseFloat(node.dataset.to) : from + parseFloat(node.style.getPropertyValue("--d"));
    return { node, from, to, now: false };
  });
  const show = (follow) => {
    head.style.setProperty("--t", position);
    head.setAttribute("aria-valuenow", position.toFixed(2));
    head.setAttribute("aria-valuetext", `${position.toFixed(1)} seconds`);
    clock.textContent = words(position);
    for (const item of timed) {
      const now = position > 0 && position >= item.from && position < item.to;
      if (now !== item.now) { item.node.classList.toggle("now", now); item.now = now; }
    }
    if (!follow) return;
    const x = position / T * canvas.clientWidth, width = scroll.clientWidth;
    if (x < scroll.scrollLeft + 24 || x > scroll.scrollLeft + width * 0.85) scroll.scrollLeft = x - width * 0.25;
  };
  const seek = (t, follow = true) => {
    position = clamp(t, 0, T);
    if (hasSound && audio.readyState > 0) audio.currentTime = position;
    show(follow);
  };
  audio.addEventListener("loadedmetadata", () => { audio.currentTime = position; });
  const frame = () => {
    if (audio.paused) return;
    position = clamp(audio.currentTime, 0, T);
    show(true);
    requestAnimationFrame(frame);
  };
  const toggle = () => {
    if (!hasSound) return;
    if (!audio.paused) { audio.pause(); return; }
    if (position >= T - 0.05) seek(0);
    wire();
    audio.play();
  };
  const playing = () => {
    const button = $("play");
    button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    button.querySelector("use").setAttribute("href", audio.paused ? "#i-play" : "#i-pause");
    requestAnimationFrame(frame);
  };
  ["play", "pause", "ended"].forEach((name) => audio.addEventListener(name, playing));
  $("play").addEventListener("click", toggle);
  $("play").disabled = !hasSound;

  // -- seeking by pointer: anywhere on the tracks; things that have a time of their own seek to it
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return (event.clientX - box.left) / box.width * T;
  };
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest(".flag")) return;
    if (event.pointerType === "mouse") { dragging = true; canvas.setPointerCapture(event.pointerId); }
    seek(at(event), false);
  });
  canvas.addEventListener("pointermove", (event) => { if (dragging) seek(at(event), false); });
  ["pointerup", "pointercancel"].forEach((name) => canvas.addEventListener(name, () => { dragging = false; }));
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-seek]");
    // A click on a turn with the mouse has placed the playhead already; the keyboard has not (detail is 0).
    if (target && (event.detail === 0 || !target.classList.contains("turn"))) seek(parseFloat(target.dataset.seek));
  });
  const jump = (way) => {
    const stops = data.stops.filter((t) => way > 0 ? t > position + 0.05 : t < position - 0.05);
    seek(way > 0 ? stops[0] ?? T : stops[stops.length - 1] ?? 0);
  };
  $("previous").addEventListener("click", () => jump(-1));
  $("next").addEventListener("click", () => jump(1));

  // -- zoom: the canvas grows, everything on it is percent
  const slider = $("zoom");
  const most = () => Math.max(1, 320 * T / scroll.clientWidth);
  const zoom = (value, around = position) => {
    slider.value = clamp(value, 0, 100);
    const factor = most() ** (slider.value / 100);
    const before = around / T * canvas.clientWidth - scroll.scrollLeft;
    canvas.style.width = `${factor * 100}%`;
    const pixels = canvas.clientWidth / T;
    data.scale.forEach((seconds, i) => canvas.classList.toggle(`dense${i + 1}`, pixels * seconds > 48));
    scroll.scrollLeft = around / T * canvas.clientWidth - before;
  };
  slider.addEventListener("input", () => zoom(slider.value));
  scroll.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Number(slider.value) - Math.sign(event.deltaY) * 5, at(event));
  }, { passive: false });
  const fit = () => {
    const wanted = 26 * T / scroll.clientWidth;
    zoom(wanted > 1 && most() > 1 ? 100 * Math.log(wanted) / Math.log(most()) : 0);
  };
  fit();
  addEventListener("resize", () => zoom(Number(slider.value)));

  // -- keys
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === slider) return;
    const step = event.shiftKey ? 5 : 1;
    const onButton = event.target.closest("button, a");
    const acts = {
      " ": () => toggle(), k: () => toggle(),
      ArrowLeft: () => seek(position - step), ArrowRight: () => seek(position + step),
      Home: () => seek(0), End: () => seek(T),
      "[": () => jump(-1), "]": () => jump(1),
      "+": () => zoom(Number(slider.value) + 10), "=": () => zoom(Number(slider.value) + 10),
      "-": () => zoom(Number(slider.value) - 10), "0": () => zoom(0),
    };
    const act = acts[event.key];
    if (!act || (onButton && event.key === " ")) return;
    event.preventDefault();
    act();
  });

  // -- details on hover and focus
  const hide = () => { tip.hidden = true; };
  const tell = (node) => {
    tip.textContent = node.dataset.tip;
    tip.hidden = false;
    const box = node.getBoundingClientRect(), view = scroll.getBoundingClientRect();
    const left = Math.max(box.left, view.left), right = Math.min(box.right, view.right);
    const x = clamp((left + right) / 2 - tip.offsetWidth / 2, 8, innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${x}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  };
  ["pointerover", "focusin"].forEach((name) => document.addEventListener(name, (event) => {
    const node = event.target.closest?.("[data-tip]");
    if (!node || dragging) { hide(); return; }
    if (name === "focusin" && !node.matches(":focus-visible")) return;
    tell(node);
  }));
  document.addEventListener("focusout", hide);
  addEventListener("scroll", hide, true);

  // -- light and dark
  $("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme ?? (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });
  show(false);
})();

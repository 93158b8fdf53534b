// Shows events as they arrive. Texts are set as text, never as markup.
"use strict";

const MOST_SHOWN = 200;
const stream = document.getElementById("stream");
const state = document.getElementById("state");
const entry = document.getElementById("entry");

function show(event) {
  const item = entry.content.cloneNode(true);
  const link = item.querySelector("a");
  link.href = event.href;
  link.className = event.kind;
  link.querySelector(".what bdi").textContent = event.event;
  link.querySelector(".line").textContent = event.text;
  link.querySelector(".who").textContent = event.user;
  link.querySelector("time").textContent = event.time;
  stream.prepend(item);
  document.getElementById("nothing").hidden = true;
  while (stream.children.length > MOST_SHOWN) stream.lastElementChild.remove();
}

function say(words, connected) {
  state.textContent = words;
  state.classList.toggle("connected", connected);
}

const source = new EventSource(stream.dataset.source);
source.onopen = () => say("Connected", true);
source.onerror = () => say("Connection lost, trying again", false);
source.onmessage = (message) => show(JSON.parse(message.data));
addEventListener("pagehide", () => source.close());

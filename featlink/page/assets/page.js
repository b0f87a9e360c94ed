// Pictures from a file, a drop or the camera go to the server, which answers with their key.
"use strict";

const featlinkRoot = document.currentScript.src.replace(/\/assets\/page\.js.*$/, "");

async function featlinkSend(file) {
  if (!file) return;
  try {
    const response = await fetch(`${featlinkRoot}/pictures`, { method: "POST", body: file });
    const answer = await response.json().catch(() => ({ detail: `The page answered ${response.status}.` }));
    emitEvent(response.ok ? "picture" : "picture_refused", response.ok ? answer.key : answer.detail);
  } catch (error) {
    emitEvent("picture_refused", "The picture could not be sent: the page does not answer.");
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches?.("input[type=file].picture")) {
    featlinkSend(event.target.files[0]);
    event.target.value = "";
  }
});

// A picture of a result, ahead of the update of elements that says the same.
function featlinkShow(id, shown) {
  const image = getHtmlElement(id);
  if (!image) return;
  if (featlinkPressed?.image === image) featlinkPressed.src = shown.src;
  for (const [name, value] of Object.entries(shown)) image.setAttribute(name, value);
  image.classList.remove("empty");
}

// The static heading, which is there before any script, gives way to the page.
const featlinkApp = document.getElementById("app");
new MutationObserver((_, observer) => {
  if (featlinkApp.querySelector(".q-layout")) {
    document.getElementById("first")?.remove();
    observer.disconnect();
  }
}).observe(featlinkApp, { childList: true, subtree: true });

// A scene is a radio button; the last place shows the rest of them.
document.addEventListener("change", (event) => {
  if (event.target.matches?.(".scenes input")) emitEvent("picture", event.target.value);
});
document.addEventListener("click", (event) => {
  if (event.target.matches?.(".scenes .more")) emitEvent("more_scenes");
});

document.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files")) {
    event.preventDefault();
    document.body.classList.add("dropping");
  }
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  if (event.dataTransfer?.files.length) {
    event.preventDefault();
    featlinkSend(event.dataTransfer.files[0]);
  }
});

// The camera shows itself in a <video> of its dialog and is let go when the dialog closes.
let featlinkStream = null;
async function featlinkCamera(id) {
  const video = document.getElementById(id);
  try {
    featlinkStream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    video.srcObject = featlinkStream;
    await video.play();
  } catch (error) {
    emitEvent("picture_refused", "The camera cannot be used: " + (error.message || error.name || error) + ".");
  }
}
function featlinkCameraOff() {
  featlinkStream?.getTracks().forEach((track) => track.stop());
  featlinkStream = null;
}
function featlinkShoot(id) {
  const video = document.getElementById(id);
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => featlinkSend(blob), "image/jpeg", 0.92);
  featlinkCameraOff();
}

// A camera that plays sends one picture after the other, each when the one before has been taken.
async function featlinkLive(id, key, pause) {
  await featlinkCamera(id);
  const video = document.getElementById(id);
  const canvas = document.createElement("canvas");
  const mine = featlinkStream;
  while (mine && mine === featlinkStream) {
    const begun = performance.now();
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    const answer = await fetch(`${featlinkRoot}/live/${key}`, { method: "POST", body: blob }).catch(() => null);
    if (!answer?.ok) break;
    await new Promise((done) => setTimeout(done, Math.max(0, pause - (performance.now() - begun))));
  }
}

// Views of one place scroll together.
document.addEventListener(
  "scroll",
  (event) => {
    const one = event.target;
    if (!one.dataset?.together) return;
    for (const other of document.querySelectorAll(`[data-together="${one.dataset.together}"]`)) {
      if (other !== one) {
        other.scrollLeft = one.scrollLeft;
        other.scrollTop = one.scrollTop;
      }
    }
  },
  true,
);

// A picture that arrived shows the clean one while it is pressed.
let featlinkPressed = null;
function featlinkRelease() {
  if (featlinkPressed) featlinkPressed.image.src = featlinkPressed.src;
  featlinkPressed = null;
}
document.addEventListener("pointerdown", (event) => {
  const image = event.target.closest?.(".side .picture")?.querySelector("img[data-of]");
  const clean = document.querySelector(".overlay.clean img[data-of]");
  if (!image || !clean || event.button) return;
  featlinkPressed = { image, src: image.src };
  image.src = clean.src;
});
for (const name of ["pointerup", "pointercancel", "blur"]) window.addEventListener(name, featlinkRelease);

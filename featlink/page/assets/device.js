// The device view: pictures go to a worker, which is the edge, one at a time; what was found is drawn here.
"use strict";

const featlinkEdge = { worker: null, answered: null, camera: null };

function featlinkStatus(text) {
  document.getElementById("device-status").textContent = text;
}

// The worker loads the network when the first picture comes, and keeps it.
function featlinkWorker() {
  if (!featlinkEdge.worker) {
    featlinkStatus("loading the network …");
    featlinkEdge.worker = new Worker(`${featlinkRoot}/assets/device_worker.js`, { type: "module" });
    featlinkEdge.worker.onmessage = ({ data }) => featlinkEdge.answered?.(data);
    featlinkEdge.worker.onerror = () => featlinkEdge.answered?.({ error: "This browser cannot run the network." });
  }
  return featlinkEdge.worker;
}

async function featlinkDetect(file) {
  const begun = performance.now();
  const answered = new Promise((done) => (featlinkEdge.answered = done));
  featlinkWorker().postMessage({ file, condition: document.getElementById("device-condition").value });
  const { result, times, error } = await answered;
  if (error) throw new Error(error);
  await featlinkDraw(file, result.detections, result.categories);
  const words = Object.entries({ ...times, total: performance.now() - begun }).map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`);
  featlinkStatus(`${(result.bits / 8000).toFixed(1)} kB under ${result.condition}; ${words.join(", ")}`);
}

async function featlinkDraw(file, detections, categories) {
  const bitmap = await createImageBitmap(file);
  const canvas = document.getElementById("device-picture");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const unit = Math.max(canvas.width, canvas.height) / 320;
  context.lineWidth = unit;
  context.font = `${6 * unit}px sans-serif`;
  let found = 0;
  for (const { bbox, score, category_id } of detections) {
    if (score < 0.5) continue;
    found++;
    const [x, y, width, height] = bbox;
    const text = `${categories[category_id]} ${score.toFixed(2)}`;
    context.strokeStyle = context.fillStyle = "#c4203b";
    context.strokeRect(x, y, width, height);
    context.fillRect(x, y, context.measureText(text).width + 2 * unit, 7 * unit);
    context.fillStyle = "#fff";
    context.fillText(text, x + unit, y + 5.5 * unit);
  }
  canvas.dataset.found = found;
}

// One source at a time: what could begin another is off meanwhile.
async function featlinkFrom(source, ...others) {
  for (const id of others) document.getElementById(id).disabled = true;
  try {
    await source();
  } catch (error) {
    featlinkStatus(error.message || String(error));
  } finally {
    for (const id of others) document.getElementById(id).disabled = false;
  }
}

document.addEventListener("change", ({ target }) => {
  const [file] = target.id === "device-file" ? target.files : [];
  if (!file) return;
  target.value = "";
  featlinkFrom(() => featlinkDetect(file), "device-file", "device-camera");
});

document.addEventListener("click", ({ target }) => {
  if (target.id !== "device-camera") return;
  if (featlinkEdge.camera) featlinkEdge.camera = null;
  else featlinkFrom(featlinkPlay, "device-file");
});

// The next picture is taken when the one before has been answered.
async function featlinkPlay() {
  if (!navigator.mediaDevices) throw new Error("Browsers allow the camera only on pages from localhost or over HTTPS.");
  const mine = (featlinkEdge.camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }));
  const button = document.getElementById("device-camera");
  const video = Object.assign(document.createElement("video"), { srcObject: mine, muted: true, playsInline: true });
  const canvas = document.createElement("canvas");
  try {
    button.textContent = "Stop the camera";
    await video.play();
    while (mine === featlinkEdge.camera) {
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      canvas.getContext("2d").drawImage(video, 0, 0);
      await featlinkDetect(await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95)));
    }
  } finally {
    mine.getTracks().forEach((track) => track.stop());
    featlinkEdge.camera = null;
    button.textContent = "Camera";
  }
}

// What Gradio's parts do not do by themselves: pictures from the page, a canvas, keys and focus.
const one = (selector) => document.querySelector(selector);

// Put a picture in the place of the person's own, as an upload does.
async function putPicture(blob) {
  one('#picture input[type=file]') || one('#picture [aria-label="Upload file"]')?.click();
  let input;
  for (let tries = 0; !(input = one('#picture input[type=file]')) && tries < 100; tries++) {
    await new Promise((go) => setTimeout(go, 20));
  }
  if (!input) return;
  const files = new DataTransfer();
  files.items.add(new File([blob], 'picture.png', { type: 'image/png' }));
  input.files = files.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
}

// Show the answer where it stands below the controls.
function showAnswer() {
  setTimeout(() => {
    const found = one('#found');
    if (innerWidth < 700 && found.querySelector('.classes, .problem')) found.scrollIntoView();
  }, 60);
}

// Return the person's picture as PNG, black for white.
async function invertedPicture() {
  const bitmap = await createImageBitmap(await (await fetch(one('#picture img').src)).blob());
  const canvas = Object.assign(document.createElement('canvas'), { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext('2d');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  context.globalCompositeOperation = 'difference';
  context.fillRect(0, 0, canvas.width, canvas.height);
  return pngOf(canvas);
}

const pngOf = (canvas) => new Promise((done) => canvas.toBlob(done, 'image/png'));

function clearDrawing(canvas) {
  const context = canvas.getContext('2d');
  context.fillStyle = canvas.dataset.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  canvas.dataset.ready = '1';
}

document.addEventListener('toggle', (event) => {
  if (event.target.id === 'draw' && !one('#draw canvas').dataset.ready) clearDrawing(one('#draw canvas'));
}, true);

document.addEventListener('click', async (event) => {
  const button = event.target.closest?.('button[data-picture], button[data-draw], button[data-invert]');
  if (!button) return;
  const canvas = one('#draw canvas');
  if (button.dataset.picture) putPicture(await (await fetch(button.dataset.picture)).blob());
  else if (button.dataset.draw === 'search') putPicture(await pngOf(canvas));
  else if (button.dataset.draw === 'clear') clearDrawing(canvas);
  else putPicture(await invertedPicture());
});

document.addEventListener('pointerdown', (event) => {
  if (!event.target.matches?.('#draw canvas')) return;
  const canvas = event.target, context = canvas.getContext('2d');
  const at = (e) => {
    const box = canvas.getBoundingClientRect();
    return [(e.clientX - box.left) * canvas.width / box.width, (e.clientY - box.top) * canvas.height / box.height];
  };
  Object.assign(context, { lineWidth: 22, lineCap: 'round', lineJoin: 'round', strokeStyle: canvas.dataset.ink });
  canvas.setPointerCapture(event.pointerId);
  context.beginPath();
  context.moveTo(...at(event));
  context.lineTo(...at(event));
  context.stroke();
  canvas.onpointermove = (e) => { context.lineTo(...at(e)); context.stroke(); };
  canvas.onpointerup = canvas.onpointercancel = () => { canvas.onpointermove = null; };
  event.preventDefault();
});

document.addEventListener('keydown', (event) => {
  const input = event.target;
  if (!input.matches?.('#controls input')) return;
  if (event.key === 'Enter' && input.getAttribute('aria-expanded') !== 'true') {
    setTimeout(() => one('#search').click(), 0);  // once a number that was typed has been taken
  } else if (input.type === 'radio' && event.key.startsWith('Arrow')) {
    const all = [...input.closest('fieldset').querySelectorAll('input[type=radio]')];
    const step = ['ArrowDown', 'ArrowRight'].includes(event.key) ? 1 : -1;
    const next = all[(all.indexOf(input) + step + all.length) % all.length];
    next.focus();
    next.click();
    event.preventDefault();
  }
});

// A part that goes away while it has the focus leaves it to what took its place.
document.addEventListener('focusout', (event) => {
  const part = event.target.closest?.('#picture') ? '#picture button' : event.target.closest?.('#found') ? '#search' : '';
  if (part) setTimeout(() => {
    if (!event.target.isConnected && document.activeElement === document.body) one(part)?.focus({ preventScroll: true });
  }, 200);
});

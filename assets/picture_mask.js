/* A mask over a picture: what a model may change. Strokes and boxes that are taken back one by one, in pixels of the picture itself,
   whatever the zoom and the density of the screen. Knows no server and no window. */
'use strict';
window.studioPictureMask = (strokes = []) => {
  const TINT = '#e11d48', STRIP = 512;   // rows that are looked through at once
  const sheet = document.createElement('canvas'), pen = sheet.getContext('2d');
  let undone = [];
  sheet.width = sheet.height = 1;

  /* ---- drawing; a stroke: {points, size} or {x, y, w, h}, with ``out`` where it takes away; or {invert: true} */
  function trace(to, { points, size }) {
    to.lineWidth = size;
    to.lineCap = to.lineJoin = 'round';
    to.beginPath();
    points.forEach(([x, y], i) => (i ? to.lineTo(x, y) : to.moveTo(x, y)));
    if (points.length > 1) return to.stroke();
    to.arc(...points[0], size / 2, 0, 7);  // a line of no length would leave nothing
    to.fill();
  }

  function lay(stroke) {
    pen.globalCompositeOperation = stroke.invert ? 'source-out' : stroke.out ? 'destination-out' : 'source-over';
    pen.fillStyle = pen.strokeStyle = TINT;
    if (stroke.points) trace(pen, stroke);
    else if (stroke.invert) pen.fillRect(0, 0, sheet.width, sheet.height);
    else pen.fillRect(stroke.x, stroke.y, stroke.w, stroke.h);
  }

  function again() {
    pen.globalCompositeOperation = 'source-over';
    pen.clearRect(0, 0, sheet.width, sheet.height);
    strokes.forEach(lay);
  }

  function add(stroke) {
    strokes.push(stroke);
    undone = [];
    lay(stroke);
  }

  function fit(width, height) {
    if (sheet.width === width && sheet.height === height) return;
    Object.assign(sheet, { width, height });
    again();
  }

  /* The mask over the picture, and the stroke that is being made. */
  function paint(to, width, height) {
    if (!strokes.length) return;
    to.save();
    to.globalAlpha = 0.5;
    to.drawImage(sheet, 0, 0, width, height);
    to.restore();
  }

  function making(to, stroke) {
    to.globalAlpha = 0.5;
    to.fillStyle = to.strokeStyle = stroke.out ? '#f8fafc' : TINT;
    trace(to, stroke);
    to.globalAlpha = 1;
  }

  /* ---- a PNG of the picture's size as base64, white where something may change and black elsewhere; '' when nothing may */
  function png() {
    const { width, height } = sheet, out = Object.assign(document.createElement('canvas'), { width, height }), to = out.getContext('2d');
    let any = false;
    for (let y = 0; y < height; y += STRIP) {
      const part = pen.getImageData(0, y, width, Math.min(STRIP, height - y)), { data } = part;
      for (let i = 3; i < data.length; i += 4) {
        const white = data[i] > 127;  // the edge of a round brush is half covered: it is in or out, never between
        data[i - 3] = data[i - 2] = data[i - 1] = white ? 255 : 0;
        data[i] = 255;
        any ||= white;
      }
      to.putImageData(part, 0, y);
    }
    if (!any) return '';
    const url = out.toDataURL('image/png');
    return url.slice(url.indexOf(',') + 1);
  }

  return { add, fit, paint, making, png, strokes,
    clear() { if (strokes.length) { undone = strokes.splice(0).reverse(); again(); } },
    undo() { if (!strokes.length) return false; undone.push(strokes.pop()); again(); return true; },
    redo() { if (!undone.length) return false; const stroke = undone.pop(); strokes.push(stroke); lay(stroke); return true; },
    get redoes() { return undone.length > 0; } };
};

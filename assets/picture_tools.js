/* The tools of the picture window: their names, shapes and settings, the edits they make, and how a shape looks while it is drawn.
   The edits are those of backends/images; the server checks them. */
'use strict';
window.studioPictureTools = (() => {
  const COLOUR = { key: 'colour', label: 'Colour', type: 'color', value: '#dc2626' };
  const WIDTH = { key: 'width', label: 'Line, pixels', type: 'number', min: 1, max: 500, value: 6 };
  const OPACITY = { key: 'opacity', label: 'Opacity', type: 'range', min: 0.05, max: 1, step: 0.05, value: 1 };
  const FILLED = { key: 'filled', label: 'Filled (hides what is under it)', type: 'checkbox', value: false };
  const factor = (key, label) => ({ key, label, type: 'range', min: 0, max: 3, step: 0.05, value: 1 });

  /* One edit of a tool with a shape; null while there is no shape. */
  const shaped = tool => ({ shape, values }) => (shape ? [{ tool, params: { ...shape, ...values } }] : []);
  const turn = degrees => [{ tool: 'rotate', params: { degrees } }];
  const flip = direction => [{ tool: 'flip', params: { direction } }];

  /* shape: box, line, free or point; fields: what can be set; edits: what it makes; now: buttons that act at once. */
  const TOOLS = {
    move: { label: 'Move', hint: 'Drag to move the picture; wheel, pinch, + and − zoom; 0 fits it, 1 shows its true size.', fields: [], edits: () => [] },
    crop: { label: 'Crop', shape: 'box', hint: 'Drag a box around what stays.', fields: [], edits: shaped('crop') },
    box: { label: 'Box', shape: 'box', hint: 'Drag a box around something.', fields: [COLOUR, WIDTH, OPACITY, FILLED], edits: shaped('box') },
    ellipse: { label: 'Ellipse', shape: 'box', hint: 'Drag an ellipse around something.', fields: [COLOUR, WIDTH, OPACITY, FILLED], edits: shaped('ellipse') },
    arrow: { label: 'Arrow', shape: 'line', hint: 'Drag from the tail to the tip.', fields: [COLOUR, WIDTH, OPACITY], edits: shaped('arrow') },
    freehand: { label: 'Freehand', shape: 'free', hint: 'Draw a line.', fields: [COLOUR, { ...WIDTH, value: 8 }, OPACITY], edits: shaped('freehand') },
    spotlight: { label: 'Spotlight', shape: 'box', hint: 'Drag over what stays bright.', edits: shaped('spotlight'),
      fields: [{ key: 'shape', label: 'Shape', type: 'select', options: ['ellipse', 'box'], value: 'ellipse' }, { key: 'darkness', label: 'Darkness around it', type: 'range', min: 0.05, max: 1, step: 0.05, value: 0.6 }] },
    blur: { label: 'Blur', shape: 'box', hint: 'Drag over what is to be blurred. A filled box hides for sure; blur can be undone by guessing.',
      fields: [{ key: 'radius', label: 'Radius, pixels', type: 'range', min: 1, max: 60, step: 1, value: 12 }], edits: shaped('blur') },
    pixelate: { label: 'Pixelate', shape: 'box', hint: 'Drag over what is to become squares.', fields: [{ key: 'size', label: 'Square, pixels', type: 'range', min: 2, max: 100, step: 1, value: 16 }], edits: shaped('pixelate') },
    text: { label: 'Label', shape: 'point', hint: 'Write the label, then click where it goes.',
      fields: [{ key: 'text', label: 'Words', type: 'textarea', value: '' }, { key: 'size', label: 'Size, pixels', type: 'number', min: 4, max: 1000, value: 32 }, COLOUR,
        { key: 'behind', label: 'On a white plate', type: 'checkbox', value: false }],
      edits: ({ shape, values: { text, behind, ...rest } }) => (shape && text.trim() ? [{ tool: 'text', params: { ...shape, ...rest, text, ...(behind ? { background: '#ffffff' } : {}) } }] : []) },
    turn: { label: 'Turn', hint: 'Turn or mirror the whole picture.', now: [['Left', () => turn(-90)], ['Right', () => turn(90)], ['Upside down', () => turn(180)], ['Mirror', () => flip('horizontal')], ['Mirror upright', () => flip('vertical')]],
      fields: [{ key: 'degrees', label: 'Degrees, clockwise', type: 'range', min: -45, max: 45, step: 0.5, value: 0 }], edits: ({ values }) => (values.degrees ? turn(values.degrees) : []) },
    resize: { label: 'Resize', hint: 'One side alone keeps the shape.', fields: [{ key: 'width', label: 'Width, pixels', type: 'number', min: 1, max: 40000, value: '' }, { key: 'height', label: 'Height, pixels', type: 'number', min: 1, max: 40000, value: '' }],
      edits: ({ values: { width, height } }) => (width || height ? [{ tool: 'resize', params: { ...(width ? { width } : {}), ...(height ? { height } : {}) } }] : []) },
    adjust: { label: 'Adjust', hint: '1 leaves it as it is.', fields: [factor('brightness', 'Brightness'), factor('contrast', 'Contrast'), factor('colour', 'Colour'), factor('sharpen', 'Sharpness')],
      edits: ({ values }) => Object.entries(values).filter(([, v]) => v !== 1).map(([tool, amount]) => ({ tool, params: { amount } })) },
    grid: { label: 'Side by side', hint: 'Choose pictures of this dialogue or of the message to stand beside or below it.', others: true,
      fields: [{ key: 'columns', label: 'Columns', type: 'number', min: 1, max: 16, value: 4 }, { key: 'gap', label: 'Gap, pixels', type: 'number', min: 0, max: 500, value: 8 }, { ...COLOUR, key: 'background', label: 'Background', value: '#ffffff' }],
      edits: ({ values, others }) => (others.length ? [{ tool: 'grid', params: { others, ...values } }] : []) },
    mask: { label: 'Edit with a model', shape: 'brush', hint: 'Paint what the model may change; paint nothing to let it change all of it.', edits: () => [],
      fields: [{ key: 'shape', label: 'Paint with', type: 'select', options: ['brush', 'box'], value: 'brush' }, { key: 'size', label: 'Brush, pixels ([ and ])', type: 'number', min: 1, max: 4000, value: 0 },
        { key: 'out', label: 'Erase', type: 'checkbox', value: false }] },
  };

  /* ---- a shape on the canvas: the pen counts pixels of the picture, ``pixel`` is one CSS pixel of these */
  function path(pen, tool, shape) {
    pen.beginPath();
    if (shape.points) shape.points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    else if (tool === 'ellipse' || tool === 'spotlight') pen.ellipse(shape.x + shape.w / 2, shape.y + shape.h / 2, shape.w / 2, shape.h / 2, 0, 0, 7);
    else pen.rect(shape.x, shape.y, shape.w, shape.h);
  }

  function dashed(pen, pixel) {
    for (const [colour, dash] of [['#fff', []], ['#1e293b', [5 * pixel, 5 * pixel]]]) { pen.strokeStyle = colour; pen.lineWidth = 1.5 * pixel; pen.setLineDash(dash); pen.stroke(); }
  }

  function paint(pen, tool, shape, values, { width, height, pixel }) {
    if (tool === 'crop') {
      pen.fillStyle = '#000a';
      pen.beginPath();
      pen.rect(0, 0, width, height);
      pen.rect(shape.x, shape.y, shape.w, shape.h);
      pen.fill('evenodd');
    }
    if (tool === 'text') {
      pen.beginPath();
      pen.moveTo(shape.x - 6 * pixel, shape.y); pen.lineTo(shape.x + 6 * pixel, shape.y); pen.moveTo(shape.x, shape.y - 6 * pixel); pen.lineTo(shape.x, shape.y + values.size);
      return dashed(pen, pixel);
    }
    if (shape.points) {  // until the server has drawn it
      path(pen, tool, shape);
      Object.assign(pen, { strokeStyle: values.colour, lineWidth: values.width, lineCap: 'round', lineJoin: 'round', globalAlpha: values.opacity });
      pen.stroke();
      pen.globalAlpha = 1;
    }
    path(pen, tool === 'spotlight' && values.shape === 'box' ? 'box' : tool, shape);
    dashed(pen, pixel);
  }

  return { TOOLS, paint };
})();

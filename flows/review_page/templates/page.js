'use strict';
// Keys, drafts and focus. Requests are htmx's.
(() => {
  const cards = () => [...document.querySelectorAll('article.entry')];
  const current = () => document.activeElement.closest('article.entry');
  const say = (sentence) => {
    const note = document.createElement('p');
    note.className = 'note';
    note.textContent = sentence;
    document.getElementById('message').replaceChildren(note);
  };
  const focus = (card) => {
    card.focus({preventScroll: true});
    card.scrollIntoView({block: 'nearest'});
    if (card.getBoundingClientRect().top < 0) card.scrollIntoView();
  };
  const move = (step) => {
    const all = cards(), card = current();
    const next = card ? all[all.indexOf(card) + step] : all[step > 0 ? 0 : all.length - 1];
    if (next) return focus(next);
    document.querySelector(step > 0 ? 'a[rel=next]' : 'a[rel=prev]')?.click();
  };
  const press = (selector) => (current() ?? cards()[0])?.querySelector(selector)?.click();
  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    a: () => press('button[value=accept]'),
    r: () => press('button[value=reject]'),
    f: () => press('button[value=flag]'),
    u: () => press('button[value=withdraw]'),
    e: () => press('[data-key=e]'),
    n: () => press('[data-key=n]'),
  };
  const typed = (author) => `ratchet author for ${author.defaultValue}`;  // who started the page as another is another
  const draft = (id) => `ratchet draft ${id}`;
  const close = (element) => {
    const card = element.closest('article.entry');
    (element.closest('.editor') ?? document.getElementById('bulk')).replaceChildren();
    if (card) focus(card);
  };

  document.addEventListener('keydown', (event) => {
    const field = event.target.closest('input, select, textarea');
    if (field?.name === 'text' && event.key === 'Escape') return close(field);
    if (field?.name === 'text' && event.key === 'Enter' && event.ctrlKey) return field.form.requestSubmit();
    if (field || event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
    event.preventDefault();
    if (!event.repeat || 'jk'.includes(event.key)) KEYS[event.key]();  // held down, a key would decide on one entry after the other
  });
  document.addEventListener('click', (event) => {
    if (event.target.closest('[data-close]')) close(event.target);
  });
  document.addEventListener('input', (event) => {
    const {id, dataset, value} = event.target;
    if (dataset.draft) localStorage.setItem(draft(dataset.draft), value);
    if (id === 'author') localStorage.setItem(typed(event.target), value);
  });

  let acted = null;
  document.addEventListener('htmx:beforeRequest', (event) => {
    document.getElementById('message').replaceChildren();
    const card = event.detail.elt.closest('article.entry');
    const decision = event.detail.requestConfig.parameters.decision;
    acted = card && event.detail.requestConfig.verb === 'post' ? {id: card.dataset.id, decision} : null;
  });
  document.addEventListener('htmx:afterSettle', () => {
    const text = document.querySelector('textarea[data-draft]:not([data-opened])');
    if (text) {
      text.dataset.opened = '';
      text.value = localStorage.getItem(draft(text.dataset.draft)) ?? text.value;
      text.focus();
    }
  });
  document.addEventListener('htmx:afterRequest', (event) => {
    if (!acted || event.detail.xhr.status >= 500) return;
    // htmx calls the answer `successful` that replaces a stale entry (412), which has decided nothing.
    const {id, decision} = acted, taken = event.detail.xhr.status < 400, all = cards();
    const place = all.findIndex((card) => card.dataset.id === id);
    acted = null;
    if (taken && decision === 'edit') localStorage.removeItem(draft(id));
    if (place < 0 || (decision === 'edit' && !taken)) return;
    focus(taken && decision !== 'withdraw' ? all[place + 1] ?? all[place] : all[place]);
  });
  document.addEventListener('htmx:sendError', () => {
    say('The page’s server does not answer, so nothing was decided. Drafts stay in this browser; `ratchet review --web` starts it again.');
  });
  const author = document.getElementById('author');
  author.value = localStorage.getItem(typed(author)) || author.value;
})();

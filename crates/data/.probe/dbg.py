import sys,re
src=open('probe.py').read()

pre=src[:src.index("docs=[]\n")]
sys.argv=['x','d','1','1','none']
exec(pre)

import os
mode=os.environ.get('MODE','base')
pos=set('smiled glad pleased grinned'.split()); neg=set('complained sorry upset frowned'.split())
R=[];Y=[]
for l in open('d/corpus.tsv'):
    w=l.split()
    if not (pos|neg)&set(w): continue
    if mode=='noneg' and ('not' in w or 'never' in w): continue
    y=[x for x in w if x in pos|neg][0] in pos
    if 'cls' in mode:
        i=w.index('.'); w=w[:i+1]
    else:
        i=w.index('.'); w=w[:i+1]+['everyone','<mask>','.']
    R.append(enc(' '.join(w),'')); Y.append(int(y))
ids=pad(R).to(dev); Y=torch.tensor(Y).to(dev); print(len(R))
n_dev=2000
torch.manual_seed(0); net=Enc().to(dev); net.train()
L=int(os.environ.get('L','4')); net.ls=net.ls[:L]
lr=float(os.environ.get('LR','1e-3'))
head=nn.Linear(128,2).to(dev)
opt=torch.optim.AdamW(list(net.parameters())+list(head.parameters()),lr=lr,betas=(.9,.98),weight_decay=.01)
acc=[];t0=time.time()
for st in range(int(os.environ.get('S','600'))):
    for g in opt.param_groups: g['lr']=lr*min(1,(st+1)/100)
    b=torch.randint(n_dev,len(R),(64,),device=dev); x=ids[b]; x=x[:,:int((x!=1).sum(1).max())]
    h=net(x,0.)
    p=(x==MASK).float().argmax(1) if 'cls' not in mode else torch.zeros(64,dtype=torch.long,device=dev)
    o=head(h[torch.arange(64,device=dev),p])
    loss=F.cross_entropy(o,Y[b]); opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(),1.0); opt.step()
    acc.append((o.argmax(1)==Y[b]).float().mean().item())
    if st%200==199: print(mode,L,lr,st,round(loss.item(),3),'acc',np.mean(acc[-100:]).round(3),round(time.time()-t0),flush=True)
